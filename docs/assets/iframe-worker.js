/* Browsers refuse web workers in pages that are opened from a folder (file://). The search runs in one, so there
   it gets a hidden frame that behaves like a worker: same messages, and importScripts that loads one script after the other. */
if (location.protocol === "file:") {
  window.Worker = class extends EventTarget {
    constructor(url) {
      super()
      const frame = document.createElement("iframe")
      frame.hidden = true
      frame.srcdoc = "<!doctype html><title>search</title>"
      this.inner = new Promise((resolve, reject) => {
        frame.addEventListener("load", () => {
          const inner = frame.contentWindow
          const load = (src) => new Promise((done, failed) => {
            const script = inner.document.createElement("script")
            Object.assign(script, { src, onload: done, onerror: failed })
            inner.document.head.append(script)
          })
          inner.postMessage = (data) => this.dispatchEvent(new MessageEvent("message", { data }))
          inner.importScripts = (...urls) => urls.reduce((before, next) => before.then(() => load(next)), Promise.resolve())
          load(url).then(() => resolve(inner), reject)
        }, { once: true })
      })
      document.body.append(frame)
    }

    postMessage(data) {
      this.inner.then((inner) => inner.dispatchEvent(new inner.MessageEvent("message", { data })))
    }

    terminate() {}
  }
}
