"""No silent hang: where a process is in its run, what ranks tell each other of it, and how a run ends of which one is in trouble. Importing
this package is light."""
