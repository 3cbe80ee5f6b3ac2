output "page_url" {
  description = "Where the page is."
  value       = local.page_url
}

output "backend" {
  description = "What draws, and where."
  value = {
    kind        = var.backend
    gpu         = var.gpu
    spot        = local.spot
    url         = local.backend_url
    image       = data.google_artifact_registry_docker_image.backend.self_link
    zone        = local.on.vm ? var.zone : null
    instance    = local.on.vm ? local.vm_name : null
    instance_id = one(google_compute_instance.backend[*].instance_id)
    revision    = local.on.vm ? local.boot_revision : null
  }
}

output "users" {
  description = "Who may use the page."
  value       = var.users
}

output "gallery" {
  description = "Where the pictures are."
  value       = "gs://${google_storage_bucket.gallery.name}"
}

output "token_secret" {
  description = "Version of the secret that holds the token between page and backend."
  value       = google_secret_manager_secret_version.token.name
}
