# What is linked, found through pkg-config. Sets SIROCCO_LIBRARIES, and SIROCCO_EDIT_* for the command.

find_package(PkgConfig)
if(NOT PKG_CONFIG_FOUND)
  message(FATAL_ERROR "pkg-config is missing. `make setup` installs what the build needs "
                      "(Debian, Ubuntu: pkg-config; Fedora: pkgconf-pkg-config; macOS: brew install pkg-config).")
endif()

# A required library, with the packages that hold it.
function(require prefix module debian fedora brew)
  pkg_check_modules(${prefix} QUIET IMPORTED_TARGET GLOBAL ${module})
  if(NOT ${prefix}_FOUND)
    message(FATAL_ERROR "The library ${module} is missing. `make setup` installs what the build needs "
                        "(Debian, Ubuntu: ${debian}; Fedora: ${fedora}; macOS: brew install ${brew}).")
  endif()
endfunction()

require(PCRE2 libpcre2-8 libpcre2-dev pcre2-devel pcre2)
require(UTF8PROC libutf8proc libutf8proc-dev utf8proc-devel utf8proc)
if(SIROCCO_TESTS)
  require(CMOCKA cmocka libcmocka-dev libcmocka-devel cmocka)
endif()

set(THREADS_PREFER_PTHREAD_FLAG ON)
find_package(Threads REQUIRED)
set(SIROCCO_LIBRARIES PkgConfig::PCRE2 PkgConfig::UTF8PROC Threads::Threads m)

# libcurl is optional: without it models by name come from the cache alone.
pkg_check_modules(CURL QUIET IMPORTED_TARGET GLOBAL libcurl>=7.66)
if(CURL_FOUND)
  list(APPEND SIROCCO_LIBRARIES PkgConfig::CURL)
else()
  message(WARNING "No libcurl: sirocco will not download models. `make setup` installs it "
                  "(Debian, Ubuntu: libcurl4-openssl-dev; Fedora: libcurl-devel; macOS: brew install curl).")
endif()

# OpenBLAS is optional: without it nothing is calibrated (`quantize --method gptq` and `awq`).
pkg_check_modules(BLAS QUIET IMPORTED_TARGET GLOBAL openblas)
if(BLAS_FOUND)
  list(APPEND SIROCCO_LIBRARIES PkgConfig::BLAS)
else()
  message(WARNING "No OpenBLAS: `sirocco quantize` will have no methods gptq and awq. `make setup` installs it "
                  "(Debian, Ubuntu: libopenblas-dev; Fedora: openblas-devel; macOS: brew install openblas).")
endif()

# libyaml is optional: without it topologies in YAML are refused, and recipes of lines work.
pkg_check_modules(YAML QUIET IMPORTED_TARGET GLOBAL yaml-0.1)
if(YAML_FOUND)
  list(APPEND SIROCCO_LIBRARIES PkgConfig::YAML)
endif()

# libedit is optional: without it `sirocco run` has no line editing.
pkg_check_modules(EDIT QUIET IMPORTED_TARGET libedit)
set(SIROCCO_EDIT_FOUND ${EDIT_FOUND})
if(EDIT_FOUND)
  set(SIROCCO_EDIT_LIBRARIES PkgConfig::EDIT)
elseif(APPLE) # part of the system there, without a .pc file
  find_library(SYSTEM_EDIT edit)
  find_path(SYSTEM_EDIT_INCLUDE_DIR histedit.h)
  if(SYSTEM_EDIT AND SYSTEM_EDIT_INCLUDE_DIR)
    set(SIROCCO_EDIT_FOUND TRUE)
    set(SIROCCO_EDIT_LIBRARIES ${SYSTEM_EDIT})
    set(SIROCCO_EDIT_INCLUDE_DIRS ${SYSTEM_EDIT_INCLUDE_DIR})
  endif()
endif()
