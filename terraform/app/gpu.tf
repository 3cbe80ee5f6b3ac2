locals {
  gpus = jsondecode(file("${path.module}/gpus.json")) # the deploy command reads the same table
  gpu  = local.gpus[var.gpu]
  spot = var.spot || local.gpu.spot_only
  on   = { vm = var.backend == "vm", cloudrun = var.backend == "cloudrun" }
}

# A machine of one series can't become one of another, and the provider does not notice that an accelerator is to be
# removed: so another GPU is always another machine.
resource "terraform_data" "gpu" {
  input = var.gpu
}
