module servable/client

go 1.23
