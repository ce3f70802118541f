"""`python -m eventfn_postgres [--records] TABLE` prints the statements that create a table: an outbox, or one for
records. Two lines into the modules that run them."""

from __future__ import annotations

import sys

from eventfn_postgres import destination, trigger
from eventfn_postgres.settings import TABLE_EXPECTED, is_table

if __name__ == "__main__":
    *options, table = sys.argv[1:] or ["--help"]
    if options not in ([], ["--records"]) or not is_table(table):
        sys.exit(f"usage: python -m eventfn_postgres [--records] TABLE\n{TABLE_EXPECTED}")
    create = destination.create_statements if options else trigger.create_statements
    sys.stdout.write(create(table).as_string())
