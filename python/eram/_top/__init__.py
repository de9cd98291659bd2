"""What `eram.top` consists of: looking, drawing, and a terminal to draw on."""
