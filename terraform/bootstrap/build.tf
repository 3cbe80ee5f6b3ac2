# Cloud Build's own account lost its permissions in 2024; this one can do what a build needs and no more.

resource "google_service_account" "build" {
  account_id   = "kotoe-build"
  display_name = "Kotoe: builds the images"

  depends_on = [google_project_service.api]
}

resource "google_artifact_registry_repository_iam_member" "build_pushes" {
  location   = google_artifact_registry_repository.images.location
  repository = google_artifact_registry_repository.images.name
  role       = "roles/artifactregistry.writer"
  member     = google_service_account.build.member
}

resource "google_project_iam_member" "build_logs" {
  project = var.project_id
  role    = "roles/logging.logWriter"
  member  = google_service_account.build.member
}

resource "google_storage_bucket" "build" {
  # checkov:skip=CKV_GCP_62: nothing here lives longer than a day
  # checkov:skip=CKV_GCP_78: nothing here lives longer than a day
  name                        = "${var.project_id}-kotoe-build"
  location                    = var.region
  uniform_bucket_level_access = true
  public_access_prevention    = "enforced"
  force_destroy               = true

  lifecycle_rule {
    condition {
      age = 1
    }

    action {
      type = "Delete"
    }
  }

  depends_on = [google_project_service.api]
}

resource "google_storage_bucket_iam_member" "build_reads_source" {
  bucket = google_storage_bucket.build.name
  role   = "roles/storage.objectViewer"
  member = google_service_account.build.member
}
