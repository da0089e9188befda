"""Values of requests and answers: arrays, dtypes, tensors, text and examples."""
