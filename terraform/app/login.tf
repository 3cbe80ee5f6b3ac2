# With IAP, Google lets in only whom `users` names, before a request reaches the page.

resource "google_project_service_identity" "iap" {
  count    = var.auth == "iap" ? 1 : 0
  provider = google-beta

  project = var.project_id
  service = "iap.googleapis.com"
}

resource "google_cloud_run_v2_service_iam_member" "iap_calls_page" {
  count = var.auth == "iap" ? 1 : 0

  location = var.region
  name     = google_cloud_run_v2_service.page.name
  role     = "roles/run.invoker"
  member   = google_project_service_identity.iap[0].member
}

resource "google_iap_web_cloud_run_service_iam_member" "user" {
  for_each = var.auth == "iap" ? var.users : []

  location               = var.region
  cloud_run_service_name = google_cloud_run_v2_service.page.name
  role                   = "roles/iap.httpsResourceAccessor"
  member                 = each.value
}
