"""The commands, a module each with its `COMMAND`; the module of the command that is called is the only one imported."""
