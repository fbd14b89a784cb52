"""Readers of gzip and zstd that people use, run on files of kas3: what each makes of files of many blocks and of one."""
