resource "google_storage_bucket" "gallery" {
  # checkov:skip=CKV_GCP_62: access logs would tell more about users than they are good for
  # checkov:skip=CKV_GCP_78: what a user deletes is to be gone; seven days of soft delete help against accidents
  name                        = "${var.project_id}-kotoe-gallery"
  location                    = var.region
  uniform_bucket_level_access = true
  public_access_prevention    = "enforced"
  force_destroy               = true # make destroy asks first

  lifecycle_rule {
    condition {
      age = 1
    }

    action {
      type = "AbortIncompleteMultipartUpload"
    }
  }

  dynamic "lifecycle_rule" {
    for_each = var.keep_pictures_days > 0 ? [var.keep_pictures_days] : []

    content {
      condition {
        age            = lifecycle_rule.value
        matches_suffix = [".png"] # what the model says of itself stays: the page reads it however long the machine sleeps
      }

      action {
        type = "Delete"
      }
    }
  }
}
