"""Of these modules only the tests are collected: the others are loaded by processes of their own."""

collect_ignore_glob = ["[!t]*.py"]
