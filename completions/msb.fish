complete --keep-order --exclusive --command msb --arguments "(MSB_COMPLETE=fish msb -- (commandline --current-process --tokenize --cut-at-cursor) (commandline --current-token))"
