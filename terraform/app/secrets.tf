# Values are ephemeral and written by write-only arguments: they stand in no state and no plan.

ephemeral "random_password" "token" {
  length  = 48
  special = false
}

resource "google_secret_manager_secret" "token" {
  secret_id = "kotoe-token"

  replication {
    user_managed {
      replicas {
        location = var.region
      }
    }
  }
}

resource "google_secret_manager_secret_version" "token" {
  secret                 = google_secret_manager_secret.token.id
  secret_data_wo         = ephemeral.random_password.token.result
  secret_data_wo_version = var.token_version

  lifecycle {
    create_before_destroy = true # a rotation always leaves one that works
  }
}

ephemeral "random_password" "cookie" {
  length  = 48
  special = false
}

resource "google_secret_manager_secret" "oidc" {
  count = var.auth == "oidc" ? 1 : 0

  secret_id = "kotoe-oidc"

  replication {
    user_managed {
      replicas {
        location = var.region
      }
    }
  }
}

resource "google_secret_manager_secret_version" "oidc" {
  count = var.auth == "oidc" ? 1 : 0

  secret = google_secret_manager_secret.oidc[0].id
  secret_data_wo = templatefile("${path.module}/secrets.toml.tftpl", {
    page_url      = local.page_url
    cookie_secret = ephemeral.random_password.cookie.result
    client_id     = var.oidc_client_id
    client_secret = var.oidc_client_secret
  })
  secret_data_wo_version = var.oidc_version

  lifecycle {
    create_before_destroy = true
  }
}

resource "google_secret_manager_secret_iam_member" "page_reads_oidc" {
  count = var.auth == "oidc" ? 1 : 0

  secret_id = google_secret_manager_secret.oidc[0].id
  role      = "roles/secretmanager.secretAccessor"
  member    = google_service_account.page.member
}
