"""`make docs`."""

from tests.docs import DOCS, pages, write

write()
print(f"{len(pages())} pages in {DOCS.name}/")
