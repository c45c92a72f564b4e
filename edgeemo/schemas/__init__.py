"""JSON Schemas (draft 2020-12) of every JSON document that edgeemo prints, keeps or serves.

A schema asks for every key that this version writes and says what each holds. Later versions may add keys,
so none refuses what it does not know. ``x-given-by`` says which commands and addresses give the document.
"""

from edgeemo.schemas.load import load_schema, schema_names

__all__ = ["load_schema", "schema_names"]
