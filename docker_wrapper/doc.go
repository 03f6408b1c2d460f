// Command docker_wrapper is the main program of BOINC apps that run in containers.
//
// The BOINC client starts it in a slot directory. It reads job.toml and init_data.xml, builds or reuses an image, runs
// one container for the job, and obeys the client (suspend, resume, quit, abort). It reports progress, CPU time and
// memory, and ends as BOINC expects. Standalone, in a directory without init_data.xml, it does the same without a
// client.
//
// docker_wrapper --help lists the options. docker_wrapper --check finds the mistakes in a job's files without an engine.
// Where a client starts it, only the options of BOINC's own wrapper count: --config F, --dockerfile F, --verbose and
// --sporadic. Everything else on the command line is the job's and reaches the container
// in the variable ARGS. The client appends --device N and --nthreads N. The wrapper obeys them and passes them on, too;
// the GPUs of --device are numbered as the container sees them.
//
// # Files
//
// Read in the slot: init_data.xml, job.toml, the Dockerfile and the files that it copies, link files.
//
// Read in BOINC's data directory: docker_wrapper.toml, in which the computer's owner decides what jobs may do,
// coproc_info.xml, the GPUs that the client has found, and, if an output is missing, client_state.xml, which tells whether
// it is optional.
//
// A link file leads to an output if its target's name is RESULT_N or RESULT_rRANDOM_N, with an ending or without, where
// RESULT is the result's name. All other links lead to inputs.
//
// Written in the slot: stderr.txt, boinc_finish_called or boinc_temporary_exit, boinc_lockfile, outputs, and the
// directory .docker_wrapper. Its sub-directory payload is all of the slot that the container sees. While the job runs,
// the wrapper carries these files between the two: trickle_up.xml, trickle_down_*, boinc_ufr_* and boinc_ufs_*; with
// --sporadic, ac and ca.
//
// Written beside the projects' directories:
//   - .docker_wrapper_images.json: the images that wrappers got and when they were last used, so that unused ones are
//     removed.
//   - .docker_wrapper_trials.json: whether this computer's engine can checkpoint containers.
//   - .docker_wrapper_key: 32 random bytes, by which wrappers recognize their own directories in slots, and their own
//     containers. If it is lost, jobs that have begun fail.
//
// # Memory
//
// The wrapper keeps its memory below 512 MiB if it can. On Linux a soft RLIMIT_DATA of 1.5 GiB ends it if that fails;
// the podman that the wrapper starts has no such limit. The files of a job that the wrapper reads are bounded: job.toml
// may have 1 MiB and 10,000 keys and values, a Dockerfile 512 KiB and 20,000 lines. More is the project's mistake.
//
// # Endings
//
//	the container ended              finish with its exit code; 205 if memory ran out
//	job.toml, image or files wrong   finish with 206 and a message that says what is wrong
//	an output is not delivered       finish with 195, if the container ended with 0
//	the time limit is over           finish with 197
//	engine, network, disk, GPU       temporary exit: the client tries again later
//	quit, client lost, a signal      exit 0; the container is left paused, or stopped with a checkpoint, for the next start
//	abort                            the container is killed and removed; exit 194
//
// The numbers are BOINC's (lib/error_numbers.h).
//
// # Standalone
//
// The project directory is ./project, and the slot is the directory itself: no files are moved, the slot isn't
// protected, and a job may do everything. The exit code is the container's, or one of the above; 206 also stands for a
// temporary exit, and 130 for an interrupt. Images stay until docker_wrapper --clean, in the same directory, removes them;
// one that a person gave another name, or another directory uses, stays under that name.
package main
