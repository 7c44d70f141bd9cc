"""Model sources: list, range-read and download a model from hf, modelscope, s3, http(s), oci or file."""
