"""Sessions and packages, as torch::deploy had them."""
