"""What the lessons say, as plain data: one file a group of topics; the numbers that their pictures draw; the glossary."""
