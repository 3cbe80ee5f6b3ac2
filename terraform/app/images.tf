# A tag goes in, a digest comes out: what runs can't change under its name.

data "google_artifact_registry_docker_image" "backend" {
  location      = var.region
  repository_id = "kotoe"
  image_name    = "backend:${var.image_tag}"

  lifecycle {
    postcondition {
      condition     = can(regex("@sha256:", self.self_link))
      error_message = "The backend's image has no digest."
    }
  }
}

data "google_artifact_registry_docker_image" "page" {
  location      = var.region
  repository_id = "kotoe"
  image_name    = "page:${var.image_tag}"

  lifecycle {
    postcondition {
      condition     = can(regex("@sha256:", self.self_link))
      error_message = "The page's image has no digest."
    }
  }
}
