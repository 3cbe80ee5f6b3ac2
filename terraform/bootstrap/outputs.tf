output "registry" {
  description = "Where images are pushed: add /NAME:TAG."
  value       = "${google_artifact_registry_repository.images.location}-docker.pkg.dev/${var.project_id}/${google_artifact_registry_repository.images.repository_id}"
}

output "build_account" {
  description = "Account that builds run as."
  value       = google_service_account.build.id
}

output "build_bucket" {
  description = "Bucket that sources are uploaded to."
  value       = google_storage_bucket.build.name
}
