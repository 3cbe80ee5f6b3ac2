resource "google_artifact_registry_repository" "images" {
  # checkov:skip=CKV_GCP_84: the images hold no secrets; Google's own keys will do
  location      = var.region
  repository_id = "kotoe"
  description   = "Images of the page and the backend, tagged with the commit that they were built from."
  format        = "DOCKER"

  docker_config {
    immutable_tags = true
  }

  cleanup_policies {
    id     = "delete-old"
    action = "DELETE"

    condition {
      older_than = "${30 * 24 * 3600}s"
    }
  }

  cleanup_policies {
    id     = "keep-newest"
    action = "KEEP"

    most_recent_versions {
      keep_count = 10
    }
  }

  depends_on = [google_project_service.api]
}
