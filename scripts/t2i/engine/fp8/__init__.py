"""The UNet with fp8 (e4m3) products: scales, layers and blocks."""
