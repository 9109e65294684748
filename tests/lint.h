/* lint.h - for cppcheck alone: macros of the system's headers, which it does not read. */
#define ElfW(type) Elf64_##type
#define cJSON_ArrayForEach(element, array) for (element = array->child; element; element = element->next)
