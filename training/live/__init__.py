"""The pipeline behind `edgeemo train live`: three stems, then the trunk and its adapters."""
