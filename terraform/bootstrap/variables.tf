variable "project_id" {
  description = "Project that everything is made in and that pays for it."
  type        = string

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{4,28}[a-z0-9]$", var.project_id))
    error_message = "project_id is the project's id: 6 to 30 lower-case letters, digits and dashes."
  }
}

variable "region" {
  description = "Region of the network, the registry and the pictures; the zones tried lie in it."
  type        = string
  default     = "asia-northeast1"

  validation {
    condition     = can(regex("^[a-z]+-[a-z]+[0-9]+$", var.region))
    error_message = "region is a region's name, such as asia-northeast1."
  }
}

variable "page_subnet_range" {
  description = "Addresses of the page's instances; Cloud Run takes them by the /28, two for each instance."
  type        = string
  default     = "10.20.0.0/26"

  validation {
    condition     = can(cidrhost(var.page_subnet_range, 0)) && try(tonumber(split("/", var.page_subnet_range)[1]) <= 26, false)
    error_message = "page_subnet_range is a range of /26 or more, such as 10.20.0.0/26."
  }
}

variable "backend_subnet_range" {
  description = "Addresses of the GPU machine's subnet."
  type        = string
  default     = "10.20.1.0/28"

  validation {
    condition     = can(cidrhost(var.backend_subnet_range, 0)) && try(tonumber(split("/", var.backend_subnet_range)[1]) <= 29, false)
    error_message = "backend_subnet_range is a range of /29 or more, such as 10.20.1.0/28."
  }
}
