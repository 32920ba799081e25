"""Archives (PACS): query, fetch and send by DIMSE or DICOMweb, and a listener that upscales what arrives."""
