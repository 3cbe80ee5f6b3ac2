mock_provider "google" {}

variables {
  project_id = "kotoe-test"
}

run "registry_network_and_builds_are_closed" {
  command = plan

  assert {
    condition     = google_artifact_registry_repository.images.docker_config[0].immutable_tags
    error_message = "A tag could be moved to another image."
  }

  assert {
    condition     = toset([for policy in google_artifact_registry_repository.images.cleanup_policies : policy.action]) == toset(["DELETE", "KEEP"])
    error_message = "Old images are never deleted, or all of them are."
  }

  assert {
    condition     = !google_compute_network.main.auto_create_subnetworks && google_compute_subnetwork.page.private_ip_google_access && google_compute_subnetwork.backend.private_ip_google_access
    error_message = "The network has subnets nobody asked for, or Google's services can't be reached from its own."
  }

  assert {
    condition     = google_storage_bucket.build.public_access_prevention == "enforced" && google_storage_bucket.build.uniform_bucket_level_access
    error_message = "The sources could be made public."
  }

  assert {
    condition     = google_artifact_registry_repository_iam_member.build_pushes.role == "roles/artifactregistry.writer" && google_project_iam_member.build_logs.role == "roles/logging.logWriter"
    error_message = "Builds may do more than push and log."
  }

  assert {
    condition     = alltrue([for api in google_project_service.api : !api.disable_on_destroy])
    error_message = "Destroying would switch off APIs that others use."
  }

  assert {
    condition     = output.registry == "asia-northeast1-docker.pkg.dev/kotoe-test/kotoe"
    error_message = "The registry is elsewhere than the deploy command pushes to."
  }
}

run "refuses_what_can_not_work" {
  command = plan

  variables {
    project_id           = "Kotoe"
    region               = "Tokyo"
    page_subnet_range    = "10.20.0.0/28"
    backend_subnet_range = "10.20.1"
  }

  expect_failures = [var.project_id, var.region, var.page_subnet_range, var.backend_subnet_range]
}
