resource "google_cloud_run_v2_service" "backend" {
  count = local.on.cloudrun ? 1 : 0

  name     = "kotoe-backend"
  location = var.region
  ingress  = "INGRESS_TRAFFIC_INTERNAL_ONLY" # from the network, that is from the page

  deletion_protection  = false
  invoker_iam_disabled = true # the backend's own token guards it, as it does on the machine

  template {
    service_account                  = google_service_account.backend.email
    timeout                          = "3600s" # of one stream of events
    gpu_zonal_redundancy_disabled    = true    # projects have no quota for the other way
    max_instance_request_concurrency = 80      # polls and streams; pictures wait in the queue

    scaling {
      min_instance_count = 0
      max_instance_count = 1 # one queue
    }

    node_selector {
      accelerator = local.gpu.cloud_run.accelerator
    }

    containers {
      image = data.google_artifact_registry_docker_image.backend.self_link

      ports {
        container_port = 8000
      }

      dynamic "env" {
        for_each = {
          BACKEND_DATA_DIR = "/data"
          BACKEND_DEVICE   = "cuda"
          BACKEND_GALLERY  = "gs://${google_storage_bucket.gallery.name}"
          BACKEND_HOST     = "0.0.0.0"
          BACKEND_MODEL    = var.model
          BACKEND_PORT     = "8000"
        }

        content {
          name  = env.key
          value = env.value
        }
      }

      env {
        name = "BACKEND_TOKEN"

        value_source {
          secret_key_ref {
            secret  = google_secret_manager_secret.token.secret_id
            version = google_secret_manager_secret_version.token.version
          }
        }
      }

      resources {
        limits = {
          cpu              = local.gpu.cloud_run.cpu
          memory           = local.gpu.cloud_run.memory
          "nvidia.com/gpu" = "1"
        }
        cpu_idle          = false # a GPU needs it
        startup_cpu_boost = true
      }

      startup_probe {
        period_seconds    = 5
        timeout_seconds   = 4
        failure_threshold = 120

        http_get {
          path = "/readyz"
        }
      }

      volume_mounts {
        name       = "data"
        mount_path = "/data"
      }
    }

    # In memory: the queue goes with the instance, pictures go to the bucket.
    volumes {
      name = "data"

      empty_dir {
        medium     = "MEMORY"
        size_limit = "1Gi"
      }
    }
  }

  lifecycle {
    precondition {
      condition     = local.gpu.cloud_run != null
      error_message = "Cloud Run has no ${var.gpu}: choose gpu l4 or rtx-pro-6000, or backend vm."
    }

    precondition {
      condition     = try(length(local.gpu.cloud_run.regions) == 0 || contains(local.gpu.cloud_run.regions, var.region), true)
      error_message = "Cloud Run has no ${var.gpu} in ${var.region}: choose one of ${try(join(", ", local.gpu.cloud_run.regions), "")}, or backend vm."
    }
  }

  depends_on = [
    google_secret_manager_secret_iam_member.backend_reads_token,
    google_storage_bucket_iam_member.backend_keeps_pictures,
  ]
}
