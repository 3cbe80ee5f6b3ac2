data "google_project" "this" {
  project_id = var.project_id
}

locals {
  page_name = "kotoe"
  page_url  = "https://${local.page_name}-${data.google_project.this.number}.${var.region}.run.app"

  page_environment = merge(
    {
      FRONTEND_PORT        = "8501"
      FRONTEND_BACKEND_URL = local.backend_url
      FRONTEND_GALLERY     = "gs://${google_storage_bucket.gallery.name}"
      FRONTEND_TRANSLATOR  = var.translator
      FRONTEND_LOGIN       = var.auth
    },
    var.translator == "google" ? { FRONTEND_GOOGLE_PROJECT = var.project_id } : {},
    local.on.vm ? { FRONTEND_GPU_VM = "projects/${var.project_id}/zones/${var.zone}/instances/${local.vm_name}" } : {},
    var.auth == "iap" ? {
      FRONTEND_IAP_AUDIENCE = "/projects/${data.google_project.this.number}/locations/${var.region}/services/${local.page_name}"
      } : {
      STREAMLIT_SECRETS_FILES = "/secrets/secrets.toml"
      FRONTEND_ALLOWED_EMAILS = join(",", [for user in var.users : replace(trimprefix(user, "user:"), "domain:", "@")])
    },
  )

  backend_url = local.on.vm ? "http://${google_compute_address.backend[0].address}:8000" : google_cloud_run_v2_service.backend[0].uri
}

resource "google_cloud_run_v2_service" "page" {
  name     = local.page_name
  location = var.region
  ingress  = "INGRESS_TRAFFIC_ALL"

  deletion_protection  = false
  iap_enabled          = var.auth == "iap"
  invoker_iam_disabled = var.auth == "oidc" # the page itself asks who is there

  template {
    service_account                  = google_service_account.page.email
    timeout                          = "3600s" # a page is one long request; then Streamlit reconnects
    session_affinity                 = true
    max_instance_request_concurrency = 80

    scaling {
      min_instance_count = 0
      max_instance_count = 1 # Streamlit's sessions live in one process
    }

    vpc_access {
      # A backend on Cloud Run is reached at a public name: from inside the network only with all traffic going there.
      egress = local.on.cloudrun ? "ALL_TRAFFIC" : "PRIVATE_RANGES_ONLY"

      network_interfaces {
        network    = data.google_compute_network.main.name
        subnetwork = data.google_compute_subnetwork.page.name
      }
    }

    containers {
      image = data.google_artifact_registry_docker_image.page.self_link

      ports {
        container_port = 8501
      }

      dynamic "env" {
        for_each = local.page_environment

        content {
          name  = env.key
          value = env.value
        }
      }

      env {
        name = "FRONTEND_BACKEND_TOKEN"

        value_source {
          secret_key_ref {
            secret  = google_secret_manager_secret.token.secret_id
            version = google_secret_manager_secret_version.token.version
          }
        }
      }

      resources {
        limits            = { cpu = "1", memory = "1Gi" }
        cpu_idle          = true
        startup_cpu_boost = true
      }

      startup_probe {
        period_seconds    = 3
        timeout_seconds   = 2
        failure_threshold = 40

        http_get {
          path = "/_stcore/health"
        }
      }

      liveness_probe {
        period_seconds  = 30
        timeout_seconds = 5

        http_get {
          path = "/_stcore/health"
        }
      }

      dynamic "volume_mounts" {
        for_each = google_secret_manager_secret_version.oidc[*].version

        content {
          name       = "secrets"
          mount_path = "/secrets"
        }
      }
    }

    dynamic "volumes" {
      for_each = google_secret_manager_secret_version.oidc[*].version

      content {
        name = "secrets"

        secret {
          secret = google_secret_manager_secret.oidc[0].secret_id

          items {
            path    = "secrets.toml"
            version = volumes.value
          }
        }
      }
    }
  }

  depends_on = [
    google_secret_manager_secret_iam_member.page_reads_token,
    google_secret_manager_secret_iam_member.page_reads_oidc,
  ]
}
