resource "google_service_account" "backend" {
  account_id   = "kotoe-backend"
  display_name = "Kotoe: draws"
}

resource "google_service_account" "page" {
  account_id   = "kotoe-page"
  display_name = "Kotoe: shows the page"
}

# Roles are blocked for weeks under the name of a deleted one.
resource "random_id" "role" {
  byte_length = 3
}

# --- the backend -----------------------------------------------------------------------------------------------

resource "google_artifact_registry_repository_iam_member" "backend_pulls" {
  location   = var.region
  repository = "kotoe"
  role       = "roles/artifactregistry.reader"
  member     = google_service_account.backend.member
}

resource "google_secret_manager_secret_iam_member" "backend_reads_token" {
  secret_id = google_secret_manager_secret.token.id
  role      = "roles/secretmanager.secretAccessor"
  member    = google_service_account.backend.member
}

resource "google_project_iam_member" "backend" {
  for_each = toset(["roles/logging.logWriter", "roles/monitoring.metricWriter"])

  project = var.project_id
  role    = each.value
  member  = google_service_account.backend.member
}

resource "google_storage_bucket_iam_member" "backend_keeps_pictures" {
  bucket = google_storage_bucket.gallery.name
  role   = "roles/storage.objectUser" # it renames, which is to write, read and delete
  member = google_service_account.backend.member
}

# --- the page --------------------------------------------------------------------------------------------------

resource "google_secret_manager_secret_iam_member" "page_reads_token" {
  secret_id = google_secret_manager_secret.token.id
  role      = "roles/secretmanager.secretAccessor"
  member    = google_service_account.page.member
}

resource "google_project_iam_custom_role" "show_pictures" {
  role_id     = "kotoeShowPictures_${random_id.role.hex}"
  title       = "Kotoe: show and delete pictures"
  permissions = ["storage.objects.delete", "storage.objects.get", "storage.objects.list"]
}

resource "google_storage_bucket_iam_member" "page_shows_pictures" {
  bucket = google_storage_bucket.gallery.name
  role   = google_project_iam_custom_role.show_pictures.id
  member = google_service_account.page.member
}

resource "google_project_iam_member" "page_translates" {
  count = var.translator == "google" ? 1 : 0

  project = var.project_id
  role    = "roles/cloudtranslate.user"
  member  = google_service_account.page.member
}

resource "google_project_iam_custom_role" "wake" {
  count = local.on.vm ? 1 : 0

  role_id     = "kotoeWake_${random_id.role.hex}"
  title       = "Kotoe: wake the GPU machine"
  permissions = ["compute.instances.get", "compute.instances.getGuestAttributes", "compute.instances.start"]
}

resource "google_compute_instance_iam_member" "page_wakes" {
  count = local.on.vm ? 1 : 0

  instance_name = google_compute_instance.backend[0].name
  zone          = google_compute_instance.backend[0].zone
  role          = google_project_iam_custom_role.wake[0].id
  member        = google_service_account.page.member
}

# Why a start came to nothing (no machine left, no quota) is told by its operation alone, and the permission to see
# operations can't be given on one machine.
resource "google_project_iam_custom_role" "see_starts" {
  count = local.on.vm ? 1 : 0

  role_id     = "kotoeSeeStarts_${random_id.role.hex}"
  title       = "Kotoe: see whether a start failed"
  permissions = ["compute.zoneOperations.list"]
}

resource "google_project_iam_member" "page_sees_starts" {
  count = local.on.vm ? 1 : 0

  project = var.project_id
  role    = google_project_iam_custom_role.see_starts[0].id
  member  = google_service_account.page.member
}
