// Command docker_wrapper is the main program of BOINC apps that run in containers.
//
// The BOINC client starts it in a slot directory. It reads job.toml and init_data.xml, builds or
// reuses an image, runs one container for the job, obeys the client (suspend, resume, quit, abort),
// reports progress, CPU time and memory, and ends as BOINC expects. Started by hand in a directory
// without init_data.xml it does the same without a client.
//
// # Flags
//
//	--config F       the job's file (default job.toml, which may be missing)
//	--dockerfile F   what its image is built from (default Dockerfile)
//	--verbose        log every call
//	--sporadic       keep the files by which BOINC's sporadic apps talk to the client
//	--               what follows is the job's
//
// As the first argument:
//
//	--plan           print what would be done, as JSON, and touch nothing
//	--check          check job.toml, unknown keys included, and the files it names; touch nothing
//	--doctor         print what is seen of this computer: engines, GPUs and how they would be given to a container, free
//	                 space; with --json after it as JSON. The exit code is 0 if a job could run, else 206
//	--version, --help
//
// Everything else is the job's: it reaches the container in the variable ARGS. --device N and
// --nthreads N, which the client appends, are obeyed and handed on too; the GPUs of --device are
// numbered as the container sees them.
//
// # Files
//
// Read in the slot: init_data.xml, job.toml, the Dockerfile and what it copies, link files. Read in
// BOINC's data directory: docker_wrapper.toml, what this computer's owner allows, and coproc_info.xml, which GPUs the client has found.
// Written in the slot: stderr.txt, boinc_finish_called or boinc_temporary_exit, boinc_lockfile,
// outputs, and the directory .docker_wrapper, whose sub-directory payload is all that the container
// sees of the slot. Carried between the two while the job runs: trickle_up.xml, trickle_down_*,
// boinc_ufr_* and boinc_ufs_*; with --sporadic, ac and ca.
// Written beside the projects' directories: .docker_wrapper_images.json, what images wrappers got and when
// they were last used, so that they are removed in time, and .docker_wrapper_trials.json, whether this computer's
// engine can checkpoint containers. There, too, .docker_wrapper_key: 32 random bytes by which wrappers tell their own
// directories in slots, and their own containers, from what jobs put there. Without it jobs that have begun are lost.
//
// # Memory
//
// The wrapper keeps itself to 512 MiB as far as it can, and on Linux a soft RLIMIT_DATA of 1.5 GiB ends it if that fails; podman,
// where the wrapper starts it, is not limited by that. What is read of a job's files is bounded: job.toml may have 1 MiB and 10,000
// keys and values, a Dockerfile 512 KiB and 20,000 lines. More is the project's mistake.
//
// # Endings
//
//	the container ended           finish with its exit code; 205 when memory ran out
//	job.toml, image or files wrong   finish with 206 and a sentence that says what
//	an output is missing          finish with 195
//	the time limit is over        finish with 197
//	engine, network, disk, GPU    temporary exit: tried again later, nothing is lost
//	quit, client lost, a signal   exit 0; the container is left paused, or stopped with a checkpoint, for the next time
//	abort                         the container is killed and removed; exit 194
//
// The numbers are BOINC's (lib/error_numbers.h).
//
// # By hand
//
// Without init_data.xml the project directory is ./project, and the slot is the directory itself: nothing
// is moved, nothing is protected, and a job may ask for everything. The exit code is the container's,
// or one of the above; 206 also stands for what would be a temporary exit, and 130 for an interrupt.
// Images stay: docker image prune -a --filter label=boinc.data_dir="$PWD" removes this directory's.
package main
