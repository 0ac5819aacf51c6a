"""Who may do what in Superset: leadership looks, analysts build on the marts, the platform runs it.

Written out on purpose, and held against Superset's own list at each migration: a permission that a
new version brings is in no role until somebody has thought about it.
"""

from __future__ import annotations

Permission = tuple[str, str]
"""What may be done, and on which of Superset's views, as Flask-AppBuilder names them."""

LEADERSHIP = "leadership"
ANALYSTS = "analysts"
ADMIN = "Admin"
# A group of the identity provider: the role that it brings. `platform` is Superset's administrator.
BY_GROUP = {"leadership": LEADERSHIP, "analysts": ANALYSTS, "platform": ADMIN}

# To open published dashboards and their charts, filter them, and share the filtered view.
LOOK: frozenset[Permission] = frozenset(
    {
        ("can_read", "Dashboard"),
        ("can_read", "Chart"),
        ("can_read", "Dataset"),
        ("can_read", "Theme"),
        ("can_read", "SecurityRestApi"),  # the token against forged requests
        ("can_read", "CurrentUserRestApi"),
        ("can_write", "CurrentUserRestApi"),
        ("can_read", "DashboardFilterStateRestApi"),
        ("can_write", "DashboardFilterStateRestApi"),
        ("can_read", "DashboardPermalinkRestApi"),
        ("can_write", "DashboardPermalinkRestApi"),
        ("can_read", "ExplorePermalinkRestApi"),
        ("can_read", "ExploreFormDataRestApi"),
        ("can_read", "Explore"),
        ("can_read", "AdvancedDataType"),
        ("can_read", "AvailableDomains"),
        ("can_dashboard", "Superset"),
        ("can_dashboard_permalink", "Superset"),
        ("can_explore", "Superset"),
        ("can_explore_json", "Superset"),
        ("can_language_pack", "Superset"),
        ("can_slice", "Superset"),
        ("can_log", "Superset"),
        ("can_recent_activity", "Log"),
        ("can_time_range", "Api"),
        ("can_query", "Api"),
        ("can_query_form_data", "Api"),
        ("can_get", "Datasource"),
        ("can_get_column_values", "Datasource"),
        ("can_get_drill_info", "Dataset"),
        ("can_list", "DynamicPlugin"),
        ("can_show", "DynamicPlugin"),
        ("can_view_chart_as_table", "Dashboard"),
        ("menu_access", "Home"),
        ("menu_access", "Dashboards"),
        ("menu_access", "Charts"),
    }
)
# To make datasets, charts and dashboards, and to try SQL: on what they may read, no more. Neither
# databases nor uploads, roles, themes or templates.
BUILD: frozenset[Permission] = LOOK | {
    ("can_write", "Dashboard"),
    ("can_write", "Chart"),
    ("can_write", "Dataset"),
    ("can_export", "Dashboard"),
    ("can_export", "Chart"),
    ("can_export", "Dataset"),
    ("can_duplicate", "Dataset"),
    ("can_get_or_create_dataset", "Dataset"),
    ("can_drill", "Dashboard"),
    ("can_view_query", "Dashboard"),
    ("can_tag", "Dashboard"),
    ("can_tag", "Chart"),
    ("can_csv", "Superset"),
    ("can_read", "Database"),
    ("can_external_metadata", "Datasource"),
    ("can_external_metadata_by_name", "Datasource"),
    ("can_samples", "Datasource"),
    ("can_save", "Datasource"),
    ("can_write", "ExploreFormDataRestApi"),
    ("can_write", "ExplorePermalinkRestApi"),
    ("can_read", "SavedQuery"),
    ("can_write", "SavedQuery"),
    ("can_read", "Query"),
    ("can_read", "SQLLab"),
    ("can_execute_sql_query", "SQLLab"),
    ("can_get_results", "SQLLab"),
    ("can_format_sql", "SQLLab"),
    ("can_export_csv", "SQLLab"),
    ("can_sqllab", "Superset"),
    ("can_sqllab_history", "Superset"),
    ("can_activate", "TabStateView"),
    ("can_get", "TabStateView"),
    ("can_post", "TabStateView"),
    ("can_put", "TabStateView"),
    ("can_delete", "TabStateView"),
    ("can_delete_query", "TabStateView"),
    ("can_migrate_query", "TabStateView"),
    ("can_post", "TableSchemaView"),
    ("can_delete", "TableSchemaView"),
    ("can_expanded", "TableSchemaView"),
    ("menu_access", "Data"),
    ("menu_access", "Datasets"),
    ("menu_access", "SQL Lab"),
    ("menu_access", "SQL Editor"),
    ("menu_access", "Saved Queries"),
    ("menu_access", "Query Search"),
}
# One's own name and password. Which of these there are depends on how people log in.
OWN_ACCOUNT: frozenset[Permission] = frozenset(
    {
        ("can_userinfo", "UserDBModelView"),
        ("can_userinfo", "UserOAuthModelView"),
        ("resetmypassword", "UserDBModelView"),
        ("can_this_form_get", "ResetMyPasswordView"),
        ("can_this_form_post", "ResetMyPasswordView"),
        ("can_this_form_get", "UserInfoEditView"),
        ("can_this_form_post", "UserInfoEditView"),
    }
)
ROLES: dict[str, frozenset[Permission]] = {LEADERSHIP: LOOK, ANALYSTS: BUILD}
