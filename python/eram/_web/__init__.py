"""The page of eram: a server of JSON and files, and what is shown by it in a browser."""
