locals {
  vm_name = "kotoe-backend"

  boot_files = {
    for name in fileset("${path.module}/boot", "kotoe-*") : name => file("${path.module}/boot/${name}")
  }

  boot_settings = {
    BACKEND_GALLERY = "gs://${google_storage_bucket.gallery.name}"
    BACKEND_MODEL   = var.model
    DRIVER_VERSION  = var.driver_version
    GIVE_UP_MINUTES = var.give_up_minutes
    GPU             = var.gpu
    IDLE_MINUTES    = var.idle_minutes
    IMAGE           = data.google_artifact_registry_docker_image.backend.self_link
    REGISTRY        = "${var.region}-docker.pkg.dev"
    TOKEN_SECRET    = google_secret_manager_secret_version.token.name
  }

  # Runs at every boot; the machine tells which revision it booted, so a deployment knows whether it must boot again.
  boot_revision = sha256(jsonencode([local.boot_files, local.boot_settings, file("${path.module}/boot/startup.sh.tftpl")]))

  startup_script = templatefile("${path.module}/boot/startup.sh.tftpl", {
    files    = local.boot_files
    settings = merge(local.boot_settings, { REVISION = local.boot_revision })
  })
}

# `desired_status` is left alone: a machine that sleeps is as it should be, and stays asleep when it is changed.
resource "google_compute_instance" "backend" {
  # checkov:skip=CKV_GCP_38: the disk holds images and the queue; Google's own keys will do
  count = local.on.vm ? 1 : 0

  name                      = local.vm_name
  zone                      = var.zone
  machine_type              = local.gpu.machine
  allow_stopping_for_update = true

  boot_disk {
    initialize_params {
      image = var.vm_image
      size  = var.disk_size_gb
      type  = local.gpu.disk
    }
  }

  network_interface {
    subnetwork = data.google_compute_subnetwork.backend.self_link
    network_ip = google_compute_address.backend[0].address
  }

  dynamic "guest_accelerator" {
    for_each = local.gpu.accelerator[*]

    content {
      type  = guest_accelerator.value
      count = 1
    }
  }

  scheduling {
    on_host_maintenance         = var.gpu == "none" && !local.spot ? "MIGRATE" : "TERMINATE"
    automatic_restart           = !local.spot
    preemptible                 = local.spot
    provisioning_model          = local.spot ? "SPOT" : "STANDARD"
    instance_termination_action = local.spot ? "STOP" : null
  }

  metadata = {
    block-project-ssh-keys  = "TRUE"
    cos-update-strategy     = "update_disabled" # a reboot must not lose the driver
    enable-guest-attributes = "TRUE"            # the phases of the boot, which the page shows
    enable-oslogin          = "TRUE"
    serial-port-enable      = "FALSE"
    startup-script          = local.startup_script # unlike metadata_startup_script, a change keeps the machine
  }

  service_account {
    email  = google_service_account.backend.email
    scopes = ["cloud-platform"] # its roles decide
  }

  shielded_instance_config {
    enable_secure_boot          = true
    enable_vtpm                 = true
    enable_integrity_monitoring = true
  }

  lifecycle {
    replace_triggered_by = [terraform_data.gpu]
  }

  depends_on = [
    google_artifact_registry_repository_iam_member.backend_pulls,
    google_project_iam_member.backend,
    google_secret_manager_secret_iam_member.backend_reads_token,
    google_storage_bucket_iam_member.backend_keeps_pictures,
  ]
}
