"""Tables, pictures and a page of runs, from what their workdirs hold alone."""
