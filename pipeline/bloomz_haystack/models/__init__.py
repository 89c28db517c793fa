"""Which model is meant and where it is: `find` (a name, a folder, the Hub) and `hub_offline`."""
