# The network is in this stack because Cloud Run holds its subnet for an hour or two after the page is gone: so the
# app stack, with all that costs money, can be destroyed at once.

resource "google_compute_network" "main" {
  # checkov:skip=CKV2_GCP_18: its firewall is in the app stack, where the account is that it is for
  name                    = "kotoe"
  auto_create_subnetworks = false

  depends_on = [google_project_service.api]
}

# Neither subnet has a way out (no external addresses, no NAT). Google's own services are reached all the same.

resource "google_compute_subnetwork" "page" {
  # checkov:skip=CKV_GCP_26: flow logs cost money and would show one caller and one port
  # checkov:skip=CKV_GCP_76: the network has no IPv6
  name                     = "kotoe-page"
  network                  = google_compute_network.main.id
  region                   = var.region
  ip_cidr_range            = var.page_subnet_range
  private_ip_google_access = true
}

resource "google_compute_subnetwork" "backend" {
  # checkov:skip=CKV_GCP_26: flow logs cost money and would show one caller and one port
  # checkov:skip=CKV_GCP_76: the network has no IPv6
  name                     = "kotoe-backend"
  network                  = google_compute_network.main.id
  region                   = var.region
  ip_cidr_range            = var.backend_subnet_range
  private_ip_google_access = true
}
