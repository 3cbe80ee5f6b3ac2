# The app stack without a cloud: `terraform test`. Mocked providers check every argument and make up what Google would
# answer; what the tests rely on is given here. The provider of random values is the real one: it needs no account, and
# ephemeral values can not be mocked.

mock_provider "google" {
  mock_data "google_artifact_registry_docker_image" {
    defaults = {
      self_link = "asia-northeast1-docker.pkg.dev/kotoe-test/kotoe/image@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
    }
  }

  mock_data "google_compute_subnetwork" {
    defaults = {
      ip_cidr_range = "10.20.0.0/26"
      self_link     = "https://www.googleapis.com/compute/v1/projects/kotoe-test/regions/asia-northeast1/subnetworks/kotoe"
    }
  }

  mock_data "google_project" {
    defaults = { number = "123456789012" }
  }

  mock_resource "google_compute_address" {
    defaults = { address = "10.20.1.2" }
  }

  mock_resource "google_secret_manager_secret_version" {
    defaults = { name = "projects/123456789012/secrets/kotoe-token/versions/7", version = "7" }
  }

  mock_resource "google_service_account" {
    defaults = {
      email  = "account@kotoe-test.iam.gserviceaccount.com"
      member = "serviceAccount:account@kotoe-test.iam.gserviceaccount.com"
    }
  }

  mock_resource "google_cloud_run_v2_service" {
    defaults = { uri = "https://kotoe-backend-123456789012.europe-west4.run.app" }
  }
}

mock_provider "google-beta" {
  mock_resource "google_project_service_identity" {
    defaults = { member = "serviceAccount:service-123456789012@gcp-sa-iap.iam.gserviceaccount.com" }
  }
}


variables {
  project_id         = "kotoe-test"
  image_tag          = "0123456789ab"
  oidc_client_secret = "" # ephemeral: left to its default, terraform test loses it between plan and apply
  users              = ["user:a@example.com"]
}

run "defaults_give_a_private_machine_that_boots_a_digest" {
  assert {
    condition     = length(google_compute_instance.backend[0].network_interface[0].access_config) == 0 && length(google_compute_instance.backend[0].network_interface[0].ipv6_access_config) == 0
    error_message = "The GPU machine has an external address."
  }

  assert {
    condition     = google_compute_firewall.page_to_backend[0].source_ranges == toset(["10.20.0.0/26"])
    error_message = "Others than the page's subnet reach the backend."
  }

  assert {
    condition     = google_compute_firewall.page_to_backend[0].allow == toset([{ protocol = "tcp", ports = tolist(["8000"]) }]) && google_compute_firewall.page_to_backend[0].target_service_accounts == toset(["account@kotoe-test.iam.gserviceaccount.com"])
    error_message = "The firewall opens more than the backend's port on the backend."
  }

  assert {
    condition     = length(google_compute_firewall.ssh_through_iap) == 0
    error_message = "SSH is open without having been asked for."
  }

  assert {
    condition     = strcontains(google_compute_instance.backend[0].metadata["startup-script"], "IMAGE='asia-northeast1-docker.pkg.dev/kotoe-test/kotoe/image@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef'")
    error_message = "The machine does not run the image by digest."
  }

  assert {
    condition     = strcontains(google_compute_instance.backend[0].metadata["startup-script"], "TOKEN_SECRET='projects/123456789012/secrets/kotoe-token/versions/7'")
    error_message = "The machine does not read the token's version."
  }

  assert {
    condition     = alltrue([for key, value in google_compute_instance.backend[0].metadata : length(regexall("[$%]\\{(settings|files|name|content|for|endfor)", value)) == 0])
    error_message = "The startup script was not rendered."
  }

  assert {
    condition     = google_compute_instance.backend[0].metadata["enable-guest-attributes"] == "TRUE"
    error_message = "The page can't read the boot's phases."
  }

  assert {
    condition     = google_compute_instance.backend[0].desired_status == null
    error_message = "An apply would wake the machine."
  }

  assert {
    condition     = endswith(google_cloud_run_v2_service.page.template[0].containers[0].image, "@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef")
    error_message = "The page does not run by digest."
  }

  assert {
    condition = {
      for variable in google_cloud_run_v2_service.page.template[0].containers[0].env : variable.name => variable.value if variable.name != "FRONTEND_BACKEND_TOKEN"
      } == {
      FRONTEND_BACKEND_URL  = "http://10.20.1.2:8000"
      FRONTEND_GALLERY      = "gs://kotoe-test-kotoe-gallery"
      FRONTEND_GPU_VM       = "projects/kotoe-test/zones/asia-northeast1-a/instances/kotoe-backend"
      FRONTEND_IAP_AUDIENCE = "/projects/123456789012/locations/asia-northeast1/services/kotoe"
      FRONTEND_LOGIN        = "iap"
      FRONTEND_PORT         = "8501"
      FRONTEND_TRANSLATOR   = "offline"
    }
    error_message = "The page is not set up as it should be."
  }

  assert {
    condition     = [for variable in google_cloud_run_v2_service.page.template[0].containers[0].env : variable.value_source[0].secret_key_ref[0].version if variable.name == "FRONTEND_BACKEND_TOKEN"] == ["7"]
    error_message = "The page does not take the token, by version, from Secret Manager."
  }

  assert {
    condition     = google_cloud_run_v2_service.page.template[0].vpc_access[0].egress == "PRIVATE_RANGES_ONLY" && google_cloud_run_v2_service.page.template[0].scaling[0].min_instance_count == 0
    error_message = "The page does not scale to zero, or sends all its traffic through the network."
  }

  assert {
    condition     = google_cloud_run_v2_service.page.iap_enabled && !google_cloud_run_v2_service.page.invoker_iam_disabled && !google_cloud_run_v2_service.page.deletion_protection
    error_message = "IAP does not guard the page, or it can't be destroyed."
  }

  assert {
    condition     = google_cloud_run_v2_service_iam_member.iap_calls_page[0].role == "roles/run.invoker" && keys(google_iap_web_cloud_run_service_iam_member.user) == ["user:a@example.com"]
    error_message = "IAP can't call the page, or others than the users pass."
  }

  assert {
    condition     = google_storage_bucket.gallery.uniform_bucket_level_access && google_storage_bucket.gallery.public_access_prevention == "enforced"
    error_message = "The gallery could be made public."
  }

  assert {
    condition     = google_secret_manager_secret_version.token.secret_data == null && google_secret_manager_secret_version.token.secret_data_wo == null
    error_message = "The token is in the state."
  }

  assert {
    condition     = toset(google_project_iam_custom_role.wake[0].permissions) == toset(["compute.instances.get", "compute.instances.getGuestAttributes", "compute.instances.start"]) && google_compute_instance_iam_member.page_wakes[0].instance_name == "kotoe-backend"
    error_message = "The page may do more than wake that one machine."
  }

  assert {
    condition     = length(google_billing_budget.monthly) == 0
    error_message = "There is a budget nobody asked for."
  }

  assert {
    condition     = google_compute_instance.backend[0].machine_type == "n1-standard-4" && google_compute_instance.backend[0].guest_accelerator[0].type == "nvidia-tesla-t4" && google_compute_instance.backend[0].guest_accelerator[0].count == 1
    error_message = "t4 is not an n1-standard-4 with one T4."
  }

  assert {
    condition     = google_compute_instance.backend[0].scheduling[0].on_host_maintenance == "TERMINATE" && google_compute_instance.backend[0].scheduling[0].provisioning_model == "STANDARD" && google_compute_instance.backend[0].scheduling[0].automatic_restart
    error_message = "t4 is not scheduled as a machine with a GPU must be."
  }
}

# --- each GPU ----------------------------------------------------------------------------------------------------

run "none_is_a_plain_machine" {
  command = plan
  variables { gpu = "none" }

  assert {
    condition     = google_compute_instance.backend[0].machine_type == "e2-standard-4" && length(google_compute_instance.backend[0].guest_accelerator) == 0 && google_compute_instance.backend[0].scheduling[0].on_host_maintenance == "MIGRATE"
    error_message = "none is not an e2-standard-4 that may be moved."
  }
}

run "v100_is_attached_to_n1" {
  command = plan
  variables { gpu = "v100" }

  assert {
    condition     = google_compute_instance.backend[0].machine_type == "n1-standard-8" && google_compute_instance.backend[0].guest_accelerator[0].type == "nvidia-tesla-v100"
    error_message = "v100 is not an n1-standard-8 with one V100."
  }
}

run "l4_comes_with_g2" {
  command = plan
  variables { gpu = "l4" }

  assert {
    condition     = google_compute_instance.backend[0].machine_type == "g2-standard-4" && length(google_compute_instance.backend[0].guest_accelerator) == 0 && google_compute_instance.backend[0].boot_disk[0].initialize_params[0].type == "pd-balanced"
    error_message = "l4 is not a g2-standard-4 without an accelerator of its own."
  }
}

run "a100_comes_with_a2" {
  command = plan
  variables { gpu = "a100" }

  assert {
    condition     = google_compute_instance.backend[0].machine_type == "a2-highgpu-1g" && length(google_compute_instance.backend[0].guest_accelerator) == 0
    error_message = "a100 is not an a2-highgpu-1g without an accelerator of its own."
  }
}

run "a100_80gb_comes_with_a2_ultra" {
  command = plan
  variables { gpu = "a100-80gb" }

  assert {
    condition     = google_compute_instance.backend[0].machine_type == "a2-ultragpu-1g" && length(google_compute_instance.backend[0].guest_accelerator) == 0
    error_message = "a100-80gb is not an a2-ultragpu-1g without an accelerator of its own."
  }
}

run "h100_is_always_spot" {
  command = plan
  variables { gpu = "h100" }

  assert {
    condition     = google_compute_instance.backend[0].machine_type == "a3-highgpu-1g" && length(google_compute_instance.backend[0].guest_accelerator) == 0
    error_message = "h100 is not an a3-highgpu-1g without an accelerator of its own."
  }

  assert {
    condition     = google_compute_instance.backend[0].scheduling[0].provisioning_model == "SPOT" && google_compute_instance.backend[0].scheduling[0].preemptible && !google_compute_instance.backend[0].scheduling[0].automatic_restart && google_compute_instance.backend[0].scheduling[0].instance_termination_action == "STOP"
    error_message = "h100 is not a Spot machine that keeps its disk."
  }
}

run "rtx_pro_6000_boots_from_hyperdisk" {
  command = plan
  variables { gpu = "rtx-pro-6000" }

  assert {
    condition     = google_compute_instance.backend[0].machine_type == "g4-standard-48" && google_compute_instance.backend[0].boot_disk[0].initialize_params[0].type == "hyperdisk-balanced"
    error_message = "rtx-pro-6000 is not a g4-standard-48 on a Hyperdisk."
  }
}

run "oidc_lets_nobody_in_by_a_group" {
  command = plan

  variables {
    auth               = "oidc"
    oidc_client_id     = "1234.apps.googleusercontent.com"
    oidc_client_secret = "GOCSPX-not-a-secret"
    users              = ["group:a@example.com"]
  }

  expect_failures = [var.users]
}

# --- choices -----------------------------------------------------------------------------------------------------

run "oidc_leaves_the_login_to_the_page" {
  variables {
    auth               = "oidc"
    oidc_client_id     = "1234.apps.googleusercontent.com"
    oidc_client_secret = "GOCSPX-not-a-secret"
    users              = ["user:a@example.com", "domain:example.org"]
  }

  assert {
    condition     = { for variable in google_cloud_run_v2_service.page.template[0].containers[0].env : variable.name => variable.value }["FRONTEND_ALLOWED_EMAILS"] == "@example.org,a@example.com"
    error_message = "The page does not ask for the users' addresses."
  }

  assert {
    condition     = !google_cloud_run_v2_service.page.iap_enabled && google_cloud_run_v2_service.page.invoker_iam_disabled && length(google_project_service_identity.iap) == 0 && length(google_iap_web_cloud_run_service_iam_member.user) == 0
    error_message = "IAP is still there."
  }

  assert {
    condition     = google_cloud_run_v2_service.page.template[0].volumes[0].secret[0].secret == "kotoe-oidc" && google_cloud_run_v2_service.page.template[0].containers[0].volume_mounts[0].mount_path == "/secrets"
    error_message = "The page does not get the OAuth client."
  }

  assert {
    condition     = google_secret_manager_secret_version.oidc[0].secret_data == null && google_secret_manager_secret_version.oidc[0].secret_data_wo == null
    error_message = "The OAuth client's secret is in the state."
  }
}

run "cloudrun_needs_no_machine" {
  variables {
    backend = "cloudrun"
    gpu     = "l4"
    region  = "europe-west4"
    zone    = "europe-west4-a"
  }

  assert {
    condition     = length(google_compute_instance.backend) == 0 && length(google_compute_address.backend) == 0 && length(google_compute_firewall.page_to_backend) == 0 && length(google_project_iam_custom_role.wake) == 0
    error_message = "There is a machine all the same, or what belongs to it."
  }

  assert {
    condition     = google_cloud_run_v2_service.backend[0].ingress == "INGRESS_TRAFFIC_INTERNAL_ONLY" && google_cloud_run_v2_service.page.template[0].vpc_access[0].egress == "ALL_TRAFFIC"
    error_message = "The backend is public, or the page does not reach it."
  }

  assert {
    condition     = google_cloud_run_v2_service.backend[0].template[0].node_selector[0].accelerator == "nvidia-l4" && google_cloud_run_v2_service.backend[0].template[0].containers[0].resources[0].limits["nvidia.com/gpu"] == "1" && !google_cloud_run_v2_service.backend[0].template[0].containers[0].resources[0].cpu_idle
    error_message = "The backend has no GPU."
  }

  assert {
    condition     = strcontains(google_cloud_run_v2_service.backend[0].template[0].containers[0].image, "@sha256:")
    error_message = "The backend does not run by digest."
  }

  assert {
    condition     = !contains([for variable in google_cloud_run_v2_service.page.template[0].containers[0].env : variable.name], "FRONTEND_GPU_VM")
    error_message = "The page would wake a machine that is not there."
  }
}

run "budget_spot_ssh_translation_and_a_limit_on_pictures_are_options" {
  command = plan
  variables {
    monthly_budget     = 50
    billing_account    = "012345-6789AB-CDEF01"
    enable_ssh         = true
    keep_pictures_days = 90
    translator         = "google"
    spot               = true
  }

  assert {
    condition     = google_compute_instance.backend[0].scheduling[0].provisioning_model == "SPOT" && google_compute_instance.backend[0].scheduling[0].instance_termination_action == "STOP"
    error_message = "spot does not give a Spot machine that keeps its disk."
  }

  assert {
    condition     = google_project_iam_member.page_translates[0].role == "roles/cloudtranslate.user"
    error_message = "The page may not translate."
  }

  assert {
    condition     = google_billing_budget.monthly[0].amount[0].specified_amount[0].units == "50" && length(google_billing_budget.monthly[0].threshold_rules) == 3
    error_message = "The budget is not as it was asked for."
  }

  assert {
    condition     = google_compute_firewall.ssh_through_iap[0].source_ranges == toset(["35.235.240.0/20"])
    error_message = "SSH is open to others than IAP."
  }

  assert {
    condition     = one([for rule in google_storage_bucket.gallery.lifecycle_rule : one(rule.condition).age if one(rule.action).type == "Delete"]) == 90
    error_message = "Pictures are not deleted after 90 days."
  }

  assert {
    condition     = one([for rule in google_storage_bucket.gallery.lifecycle_rule : one(rule.condition).matches_suffix if one(rule.action).type == "Delete"]) == tolist([".png"])
    error_message = "The model's description would be deleted with old pictures."
  }
}

# --- refused -----------------------------------------------------------------------------------------------------

run "refuses_a_zone_of_another_region_and_what_could_be_anything" {
  command = plan
  variables {
    gpu       = "gtx-970"
    image_tag = "latest"
    users     = ["allUsers"]
    zone      = "us-central1-a"
  }
  expect_failures = [var.gpu, var.image_tag, var.users, var.zone]
}

run "refuses_oidc_without_a_client_and_a_budget_without_an_account" {
  command = plan
  variables {
    auth           = "oidc"
    monthly_budget = 50
  }
  expect_failures = [var.oidc_client_id, var.billing_account]
}

run "refuses_values_out_of_bounds" {
  command = plan
  variables {
    auth               = "none"
    backend            = "gke"
    disk_size_gb       = 10
    driver_version     = "latest"
    give_up_minutes    = 1
    idle_minutes       = 0
    keep_pictures_days = -1
    model              = "dalle"
    oidc_version       = 0
    project_id         = "Kotoe"
    region             = "tokyo"
    token_version      = 1.5
    translator         = "deepl"
    vm_image           = "cos-stable"
  }
  expect_failures = [
    var.auth, var.backend, var.disk_size_gb, var.driver_version, var.give_up_minutes, var.idle_minutes,
    var.keep_pictures_days, var.model, var.oidc_version, var.project_id, var.region, var.token_version, var.translator,
    var.vm_image,
  ]
}

run "refuses_a_gpu_that_cloud_run_does_not_have" {
  command = plan
  variables {
    backend = "cloudrun"
    gpu     = "t4"
  }
  expect_failures = [google_cloud_run_v2_service.backend]
}

run "refuses_a_region_where_cloud_run_has_no_gpu" {
  command = plan
  variables {
    backend = "cloudrun"
    gpu     = "l4"
  }
  expect_failures = [google_cloud_run_v2_service.backend]
}
