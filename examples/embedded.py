"""A stock of goods inside one program: ``python examples/embedded.py DIRECTORY``.

Run it again: what it did before is there. Kill it, pull the plug: the same.
"""

from __future__ import annotations

import sys
from pathlib import Path

from walstore import FileWALManager
from walstore.docstore import DocumentStore, DuplicateKeyError


def main(directory: Path) -> None:
    with FileWALManager(directory) as log, DocumentStore(log) as store:
        stock, orders = store["stock"], store["orders"]
        stock.create_index("name", unique=True)
        orders.create_index([("customer", 1), ("number", -1)])
        try:
            stock.insert_many([{"name": "apple", "left": 10}, {"name": "pear", "left": 3}])
        except DuplicateKeyError:
            print("there is a stock from the run before")

        # Both or neither is in the log when the block ends, on the disk.
        with store.transaction():
            number = orders.count_documents({}) + 1
            stock.update_one({"name": "apple"}, {"$inc": {"left": -1}})
            orders.insert_one({"number": number, "customer": "ada", "what": "apple"})

        for thing in stock.find(sort="name"):
            print(f"{thing['left']} of {thing['name']} are left")
        last = orders.find({"customer": "ada"}, sort=[("number", -1)], limit=3)
        print("ada's last orders:", [order["number"] for order in last])


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(Path(sys.argv[1]))
