resource "google_billing_budget" "monthly" {
  count = var.monthly_budget > 0 ? 1 : 0

  billing_account = var.billing_account
  display_name    = "Kotoe in ${var.project_id}"

  budget_filter {
    projects = ["projects/${data.google_project.this.number}"]
  }

  amount {
    specified_amount {
      units = tostring(var.monthly_budget)
    }
  }

  dynamic "threshold_rules" {
    for_each = [0.5, 0.9, 1.0]

    content {
      threshold_percent = threshold_rules.value
    }
  }
}
