"""How a server is spoken to that takes less than others: no tools, few images, a strict order."""
