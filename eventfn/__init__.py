"""eventfn: a Lambda that you run yourself."""
