# Another GPU is another machine, and a new image is not: each run changes what the run before it made.

mock_provider "google" {
  mock_data "google_artifact_registry_docker_image" {
    defaults = { self_link = "asia-northeast1-docker.pkg.dev/kotoe-test/kotoe/image@sha256:0123456789abcdef" }
  }

  mock_resource "google_compute_address" {
    defaults = { address = "10.20.1.2" }
  }
}

mock_provider "google-beta" {}

variables {
  project_id         = "kotoe-test"
  image_tag          = "0123456789ab"
  oidc_client_secret = "" # ephemeral: left to its default, terraform test loses it between plan and apply
  gpu                = "t4"
}

run "t4" {}

run "another_image_keeps_the_machine" {
  variables {
    image_tag    = "fedcba987654"
    idle_minutes = 30
  }

  assert {
    condition     = google_compute_instance.backend[0].instance_id == run.t4.backend.instance_id
    error_message = "A deployment made another machine: layers and driver are lost."
  }

  assert {
    condition     = output.backend.revision != run.t4.backend.revision
    error_message = "The machine does not learn that it has to boot again."
  }
}

run "another_gpu_is_another_machine" {
  variables { gpu = "a100" }

  assert {
    condition     = google_compute_instance.backend[0].instance_id != run.t4.backend.instance_id
    error_message = "The T4's machine was to become one with an A100, which Google refuses."
  }
}
