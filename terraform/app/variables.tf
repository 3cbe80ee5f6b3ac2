variable "project_id" {
  description = "Project that everything is made in and that pays for it."
  type        = string

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{4,28}[a-z0-9]$", var.project_id))
    error_message = "project_id is the project's id: 6 to 30 lower-case letters, digits and dashes."
  }
}

variable "region" {
  description = "Region of the bootstrap stack."
  type        = string
  default     = "asia-northeast1"

  validation {
    condition     = can(regex("^[a-z]+-[a-z]+[0-9]+$", var.region))
    error_message = "region is a region's name, such as asia-northeast1."
  }
}

variable "zone" {
  description = "Zone of the GPU machine, in the region; the deploy command tries a list of them."
  type        = string
  default     = "asia-northeast1-a"

  validation {
    condition     = can(regex("^${var.region}-[a-z]$", var.zone))
    error_message = "zone is a zone of the region ${var.region}, such as ${var.region}-a."
  }
}

variable "backend" {
  description = "What draws: vm, a GPU machine that sleeps when idle, or cloudrun, a Cloud Run service with a GPU."
  type        = string
  default     = "vm"

  validation {
    condition     = contains(["vm", "cloudrun"], var.backend)
    error_message = "backend must be vm or cloudrun."
  }
}

variable "gpu" {
  description = "GPU of the backend; decides machine type, disk type, Spot and quota (gpus.json). none draws on the CPU."
  type        = string
  default     = "t4"

  validation {
    condition     = contains(["none", "t4", "l4", "v100", "a100", "a100-80gb", "h100", "rtx-pro-6000"], var.gpu)
    error_message = "gpu must be one of none, t4, l4, v100, a100, a100-80gb, h100, rtx-pro-6000."
  }
}

variable "spot" {
  description = "Take a Spot machine: far cheaper, may be stopped at any time (and is woken again). h100 always is one."
  type        = bool
  default     = false
}

variable "image_tag" {
  description = "Tag that both images were pushed under: the commit."
  type        = string

  validation {
    condition     = can(regex("^[0-9a-f]{7,40}(-[a-z0-9-]+)?$", var.image_tag))
    error_message = "image_tag begins with the commit that the images were built from; latest and the like are refused."
  }
}

variable "model" {
  description = "Model that draws: mini (embedded) or glide (OpenAI's checkpoints; the image must hold them)."
  type        = string
  default     = "mini"

  validation {
    condition     = contains(["mini", "glide"], var.model)
    error_message = "model must be mini or glide."
  }
}

variable "translator" {
  description = "Translator of the page: offline (embedded) or google (Cloud Translation)."
  type        = string
  default     = "offline"

  validation {
    condition     = contains(["offline", "google"], var.translator)
    error_message = "translator must be offline or google."
  }
}

variable "auth" {
  description = "How users sign in: iap (project in an organization) or oidc (an OAuth client of your own)."
  type        = string
  default     = "iap"

  validation {
    condition     = contains(["iap", "oidc"], var.auth)
    error_message = "auth must be iap or oidc."
  }
}

variable "users" {
  description = "Who may use the page: user:, group:, domain: or serviceAccount: and a name; with auth oidc user: and domain: only."
  type        = set(string)
  default     = []

  validation {
    condition     = alltrue([for user in var.users : can(regex("^(user|group|serviceAccount):[^@\\s]+@[^@\\s]+$|^domain:[a-z0-9.-]+$", user))])
    error_message = "users are written user:NAME@HOST, group:NAME@HOST, serviceAccount:NAME@HOST or domain:HOST."
  }

  validation {
    condition     = var.auth != "oidc" || (length(var.users) > 0 && alltrue([for user in var.users : can(regex("^(user|domain):", user))]))
    error_message = "auth oidc needs users, each a user: or a domain:, since the page can't look into groups."
  }
}

variable "oidc_client_id" {
  description = "OAuth client for auth oidc; its redirect URI is the output page_url and /oauth2callback."
  type        = string
  default     = ""

  validation {
    condition     = var.auth != "oidc" || var.oidc_client_id != ""
    error_message = "auth oidc needs oidc_client_id."
  }
}

variable "oidc_client_secret" {
  description = "Secret of that client. Goes to Secret Manager and into no state; bump oidc_version to change it."
  type        = string
  default     = ""
  sensitive   = true
  ephemeral   = true

  validation {
    condition     = var.oidc_client_secret == "" || can(regex("^[!#-Z^-~]+$", var.oidc_client_secret))
    error_message = "oidc_client_secret has characters that no OAuth client's secret has."
  }
}

variable "oidc_version" {
  description = "Raise it to store oidc_client_secret anew."
  type        = number
  default     = 1

  validation {
    condition     = var.oidc_version >= 1 && floor(var.oidc_version) == var.oidc_version
    error_message = "oidc_version is a whole number from 1."
  }
}

variable "token_version" {
  description = "Raise it to replace the token between page and backend."
  type        = number
  default     = 1

  validation {
    condition     = var.token_version >= 1 && floor(var.token_version) == var.token_version
    error_message = "token_version is a whole number from 1."
  }
}

variable "idle_minutes" {
  description = "Minutes without work after which the GPU machine powers itself off."
  type        = number
  default     = 15

  validation {
    condition     = var.idle_minutes >= 2 && var.idle_minutes <= 1440 && floor(var.idle_minutes) == var.idle_minutes
    error_message = "idle_minutes is a whole number from 2 to 1440."
  }
}

variable "give_up_minutes" {
  description = "Minutes without becoming ready after which it powers itself off, too."
  type        = number
  default     = 30

  validation {
    condition     = var.give_up_minutes >= 10 && var.give_up_minutes <= 1440 && floor(var.give_up_minutes) == var.give_up_minutes
    error_message = "give_up_minutes is a whole number from 10 to 1440: the first boot takes some minutes."
  }
}

variable "vm_image" {
  description = "Image of the GPU machine: Container-Optimized OS, a family or, to pin it, one image."
  type        = string
  default     = "projects/cos-cloud/global/images/family/cos-125-lts"

  validation {
    condition     = can(regex("^projects/[a-z0-9-]+/global/images/(family/)?[a-z0-9-]+$", var.vm_image))
    error_message = "vm_image is projects/PROJECT/global/images/NAME or …/images/family/NAME."
  }
}

variable "driver_version" {
  description = "NVIDIA driver: a branch, such as R580 (the last for the V100), or one version."
  type        = string
  default     = "R580"

  validation {
    condition     = can(regex("^(R[0-9]{3}|[0-9]{3}(\\.[0-9]+){1,2})$", var.driver_version))
    error_message = "driver_version is a branch such as R580 or a version such as 580.126.09."
  }
}

variable "disk_size_gb" {
  description = "Disk of the GPU machine, GB: system, driver, image and queue."
  type        = number
  default     = 60

  validation {
    condition     = var.disk_size_gb >= 30 && var.disk_size_gb <= 1000 && floor(var.disk_size_gb) == var.disk_size_gb
    error_message = "disk_size_gb is a whole number from 30 to 1000."
  }
}

variable "keep_pictures_days" {
  description = "Days after which a picture is deleted; 0 keeps them."
  type        = number
  default     = 0

  validation {
    condition     = var.keep_pictures_days >= 0 && floor(var.keep_pictures_days) == var.keep_pictures_days
    error_message = "keep_pictures_days is a whole number, 0 or more."
  }
}

variable "enable_ssh" {
  description = "Let those with the permission reach the GPU machine by SSH, through IAP alone."
  type        = bool
  default     = false
}

variable "monthly_budget" {
  description = "Mail the billing account's administrators at half, nine tenths and all of this sum, in its currency; 0: no alert."
  type        = number
  default     = 0

  validation {
    condition     = var.monthly_budget >= 0 && floor(var.monthly_budget) == var.monthly_budget
    error_message = "monthly_budget is a whole number, 0 or more."
  }
}

variable "billing_account" {
  description = "Billing account of the budget; needed with monthly_budget."
  type        = string
  default     = ""

  validation {
    condition     = var.billing_account == "" ? var.monthly_budget == 0 : can(regex("^[0-9A-F]{6}(-[0-9A-F]{6}){2}$", var.billing_account))
    error_message = "billing_account is written 012345-6789AB-CDEF01, and monthly_budget needs it."
  }
}
