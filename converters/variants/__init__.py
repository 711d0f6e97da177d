"""PEFT's other methods: what each stores for a module, as an exact low-rank form or a measured one."""
