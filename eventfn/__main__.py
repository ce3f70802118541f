from eventfn.cli import main

main()
