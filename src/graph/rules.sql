-- $1 workspace
SELECT coalesce(w.link_threshold, d.link_threshold), coalesce(w.link_prune, d.link_prune), coalesce(w.link_limit, d.link_limit),
       coalesce(w.link_half_life_days, d.link_half_life_days), coalesce(w.link_members, d.link_members)
FROM engram.settings d LEFT JOIN engram.settings w ON w.workspace_id = $1
WHERE d.workspace_id = '00000000-0000-0000-0000-000000000000'
