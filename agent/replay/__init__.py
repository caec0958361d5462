"""A finished run followed again from its folder, without model or network, and compared byte for byte."""
