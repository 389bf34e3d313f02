"""Where bytes lie: objects and files, folders of large ones, local copies, PostgreSQL. Knows no table."""
