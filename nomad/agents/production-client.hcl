# A client. Read with production.hcl. The host_volume blocks say which nodes have which: a job that
# names a volume runs only where it is, so they decide the places of the jobs.
client {
  enabled = true

  server_join {
    retry_join     = ["nomad-1.example.org", "nomad-2.example.org", "nomad-3.example.org"]
    retry_interval = "15s"
  }

  # The interface of the cluster's own network: the jobs' ports are opened there and on no other.
  # Redis, the DAG mirror and the log server speak without TLS: let no other network reach it.
  network_interface = "eth1"

  # The slowest end of a task is a Celery worker's warm shutdown, which waits for running tasks
  # (worker_kill_timeout). Nomad's own cap of 30 s would cut them off.
  max_kill_timeout = "10m"

  # Dead allocations are kept for their logs, as long as the servers keep their jobs (96 h of dag-sync
  # are 1152); 50, Nomad's own number, is four hours of it.
  gc_max_allocs = 1500

  # What the host itself needs: dockerd, Nomad, sshd.
  reserved {
    cpu    = 500 # MHz
    memory = 512 # MB
  }

  options = {
    # Nodes for this platform only run Docker, and a driver that is not there cannot be misused.
    # Leave it out where other teams' jobs need another driver.
    "driver.allowlist" = "docker"
  }

  # Nomad makes no directory: make each as the comment says. The users are the images' own.

  # These two on every node that may run workers or triggerers: airflow-logs serves and grooms them.
  # Workers write the first; the second is the triggerers' own, where no task can put a file or a link
  # in a log's place.
  #   install -d -o 50008 -g 50000 -m 755 /srv/harmattan/airflow-logs
  #   install -d -o 50000 -g 50000 -m 755 /srv/harmattan/airflow-trigger-logs
  host_volume "airflow-logs" {
    path = "/srv/harmattan/airflow-logs"
  }

  host_volume "airflow-trigger-logs" {
    path = "/srv/harmattan/airflow-trigger-logs"
  }

  # These two on one node, the same one, and on no other: dag-sync writes what dag-mirror serves.
  # dag_mirror_url names that node. Both can be made again from the analysts' remote.
  #   install -d -o 50000 -g 50000 -m 755 /srv/harmattan/dag-incoming /srv/harmattan/dag-mirror
  host_volume "dag-incoming" {
    path = "/srv/harmattan/dag-incoming"
  }

  host_volume "dag-mirror" {
    path = "/srv/harmattan/dag-mirror"
  }

  # These two on one node or more, the same ones, with room for the largest database: its dump in
  # plain, and its server's data. They hold plaintext during a drill: an encrypted disk of the node,
  # no network storage. Of two users, as one has the keys and the other runs what is restored.
  #   install -d -o 50001 -g 50001 -m 700 /srv/harmattan/backup-scratch
  #   install -d -o 50004 -g 50004 -m 700 /srv/harmattan/scratch-server
  host_volume "backup-scratch" {
    path = "/srv/harmattan/backup-scratch"
  }

  host_volume "scratch-server" {
    path = "/srv/harmattan/scratch-server"
  }
}

plugin "docker" {
  config {
    # `docker login` of the images' registry, in a file that root alone can read.
    auth {
      config = "/etc/nomad.d/docker-auth.json"
    }

    # A roll-back should find yesterday's image on the node, registry or no registry.
    gc {
      image       = true
      image_delay = "72h"
    }

    # No job mounts a path of the host; host volumes are the only way, and ACLs know those.
    volumes {
      enabled = false
    }
    allow_privileged = false

    # What tasks with strangers' code begin with: to shut Nomad's folders to them (fowner), and to
    # run them as another user than the process that watches them; all other tasks drop all. Nomad's
    # own list holds these four too: leave this out where other teams' jobs need more of it.
    allow_caps = ["setuid", "setgid", "kill", "fowner"]
  }
}
