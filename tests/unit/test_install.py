"""The install script names a missing requirement in one line."""

import json
from pathlib import Path

import pytest


@pytest.mark.parametrize("version", [(3, 11, 0), (3, 12, 1), (3, 13, 9)])
def test_supported_python_passes(install, version):
    assert install.check_python(version) is None


@pytest.mark.parametrize("version", [(3, 8, 10), (3, 10, 14), (3, 14, 0), (4, 0, 0)])
def test_other_python_is_named(install, version):
    message = install.check_python(version)
    assert f"this is {version[0]}.{version[1]}" in message
    assert "3.11, 3.12 or 3.13" in message
    assert "\n" not in message


def test_disk_message_says_how_much_is_missing(install):
    assert install.check_disk(8 * 10**9, 8, "/here") is None
    message = install.check_disk(5_500_000_000, 8, "/here")
    assert "/here" in message
    assert "5.5 GB free" in message
    assert "free 2.5 GB more" in message
    assert "\n" not in message


def nowhere(name):
    return None


def test_compiler_message_names_the_package(install):
    message = install.check_compiler("linux", which=nowhere)
    assert "build-essential" in message and "gcc-c++" in message and "\n" not in message
    clang = {"clang": "/bin/clang"}
    assert install.check_compiler("linux", which=clang.get) is None
    assert install.check_compiler("darwin", which=nowhere) is None
    message = install.check_compiler("linux", which=nowhere, chosen="nowhere -O2")
    assert "CC=nowhere" in message


def test_missing_venv_module_names_the_package(install):
    assert install.check_venv(True) is None
    assert "-venv" in install.check_venv(False)


def test_engine_follows_the_machine(install):
    assert install.choose_engine("linux", gpu=True) == "cuda"
    assert install.choose_engine("linux", gpu=False) == "cpu"
    assert install.choose_engine("darwin", gpu=False) == ""
    assert install.choose_engine("win32", gpu=True) == ""


def test_cpu_machines_get_the_cpu_build_of_torch_or_a_line_that_says_how(install, monkeypatch):
    assert install.torch_build("cpu", "x86_64").endswith("+cpu")
    assert install.torch_build("cpu", "aarch64").endswith("+cpu")
    for engine, processor in (("cuda", "x86_64"), ("", "arm64"), ("cpu", "ppc64le")):
        assert install.torch_build(engine, processor) == install.TORCH
    monkeypatch.setattr(install.platform, "machine", lambda: "x86_64")
    failure = (1, "ERROR: No matching distribution found for torch")
    monkeypatch.setattr(install, "pip", lambda *args: failure)
    with pytest.raises(install.InstallError, match="PIP_EXTRA_INDEX_URL") as error:
        install.install_torch("cpu")
    assert "\n" not in str(error.value)


def test_pip_failure_shows_the_end_of_its_output_without_warnings(install):
    output = "\n".join(f"line {i}" for i in range(50)) + "\nWARNING: noise\n"
    with pytest.raises(install.InstallError, match="pip install x failed") as error:
        install.fail_with(output, "pip install x")
    assert error.value.details.splitlines() == [f"line {i}" for i in range(20, 50)]


def test_import_advice_knows_the_trap(install):
    output = "FAILED transformers RuntimeError: operator torchvision::nms does not exist"
    assert "uninstall -y torchvision" in install.import_advice(output)
    assert "make clean" in install.import_advice("FAILED lightning ImportError: no idea")


def test_venv_without_stamp_is_not_reused(install, tmp_path, monkeypatch):
    monkeypatch.setattr(install, "VENV", str(tmp_path / ".venv"))
    base = install.base_of("cpu")
    assert not install.is_reusable(base)
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    assert not install.is_reusable(base)
    monkeypatch.setattr(install, "python_runs", lambda: True)
    Path(install.stamp_path(base, True)).write_text(json.dumps(base))
    assert install.is_reusable(base)
    assert not install.is_reusable(install.base_of("cuda"))


def test_stamp_differs_by_extras(install):
    base = install.base_of("cpu")
    assert install.stamp_path(base, True) != install.stamp_path(base, False)
    assert install.stamp_path(base, True) != install.stamp_path(install.base_of("cuda"), True)


@pytest.mark.parametrize("missing", ["python", "disk", "compiler"])
def test_what_is_missing_ends_with_one_line(install, missing, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(install, "VENV", str(tmp_path / ".venv"))
    monkeypatch.setattr(install, "has_gpu", lambda: False)
    monkeypatch.setattr(install, "check_" + missing, lambda *args, **kwargs: f"no {missing} here")
    assert install.main(["--dev"]) == 1
    captured = capsys.readouterr()
    assert captured.err == f"error: no {missing} here\n" and captured.out == ""
    assert not (tmp_path / ".venv").exists()


def test_exact_versions_are_for_the_machine_that_they_were_written_on(install, tmp_path):
    file = tmp_path / "constraints.txt"
    assert install.constraints_for("cpu", (3, 11, 7), str(file)) is None
    file.write_text("numpy==2.3.1\n")
    assert install.constraints_for("cpu", (3, 11, 7), str(file)) == str(file)
    assert install.constraints_for("cuda", (3, 11, 7), str(file)) is None
    assert install.constraints_for("cpu", (3, 12, 0), str(file)) is None


def test_new_exact_versions_call_for_an_installation(install, tmp_path, monkeypatch):
    file = tmp_path / "constraints.txt"
    monkeypatch.setattr(install, "constraints_for", lambda engine, version: str(file))
    stamps = []
    for text in ("numpy==2.3.1\n", "numpy==2.3.2\n"):
        file.write_text(text)
        stamps.append(install.stamp_path(install.base_of("cpu"), True))
    assert stamps[0] != stamps[1]


def test_pip_is_given_the_exact_versions(install, monkeypatch):
    asked = []
    monkeypatch.setattr(install, "pip", lambda *arguments: asked.append(arguments) or (0, ""))
    install.install_project(["cpu", "dev"], "constraints.txt")
    install.install_project(["cuda"], None)
    assert asked[0][-4:] == ("-c", "constraints.txt", "-e", ".[cpu,dev]")
    assert asked[1][-2:] == ("-e", ".[cuda]") and "-c" not in asked[1]
