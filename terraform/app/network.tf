data "google_compute_network" "main" {
  name = "kotoe"
}

data "google_compute_subnetwork" "page" {
  name   = "kotoe-page"
  region = var.region
}

data "google_compute_subnetwork" "backend" {
  name   = "kotoe-backend"
  region = var.region
}

resource "google_compute_address" "backend" {
  count = local.on.vm ? 1 : 0

  name         = "kotoe-backend"
  region       = var.region
  address_type = "INTERNAL"
  purpose      = "GCE_ENDPOINT"
  subnetwork   = data.google_compute_subnetwork.backend.self_link
}

# By range: neither tags nor accounts of a Cloud Run service match in a rule for incoming traffic.
resource "google_compute_firewall" "page_to_backend" {
  count = local.on.vm ? 1 : 0

  name                    = "kotoe-page-to-backend"
  network                 = data.google_compute_network.main.name
  direction               = "INGRESS"
  source_ranges           = [data.google_compute_subnetwork.page.ip_cidr_range]
  target_service_accounts = [google_service_account.backend.email]

  allow {
    protocol = "tcp"
    ports    = ["8000"]
  }
}

resource "google_compute_firewall" "ssh_through_iap" {
  count = local.on.vm && var.enable_ssh ? 1 : 0

  name                    = "kotoe-ssh-through-iap"
  network                 = data.google_compute_network.main.name
  direction               = "INGRESS"
  source_ranges           = ["35.235.240.0/20"] # IAP's own
  target_service_accounts = [google_service_account.backend.email]

  allow {
    protocol = "tcp"
    ports    = ["22"]
  }
}
